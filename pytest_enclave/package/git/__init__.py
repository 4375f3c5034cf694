"""Packages of other repositories, through the git program: fetched once per commit, kept in the user's cache."""
