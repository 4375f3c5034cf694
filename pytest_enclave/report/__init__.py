"""What users read: events become terminal lines, errors become reports that explain themselves.

text, look, fitting        lines of styled segments; how much room they have; what goes when there is too little
masking                    secrets, never shown
failure                    an error as a report: `render`, and `render_again` for tests that meet it later
├── codes                  the stable E-numbers
├── starlark_call          a call in source text, and where its arguments stand
├── source_excerpt         source lines with a caret under the right place
├── value_lines            values with their types, and where they came from
├── call_log               the attempts of a wait, compressed
├── problem_table          many problems, numbered
├── facts                  what is known, name by name, aligned
└── interpretation, validation, execution, unavailable     what each branch of the error tree has to tell
short_call, amounts        an instruction in one line; seconds and bytes with their units
lines, live                what a run tells while it goes
plan_text, summary         `--enclave-plan`; the last lines of a session
"""
