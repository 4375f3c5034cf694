"""Packages on disk: manifest, main file, locators, files read and digested, and the arguments of a run."""
