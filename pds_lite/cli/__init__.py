"""The command line: one file per command, each with `add_arguments(parser)` and `run(arguments) -> exit status`.

`main` knows the list, and imports only the command that was asked for, so that `serve` starts fast. Commands that
change state ask the running daemon (`daemon.run`); without one they do the same themselves. What goes wrong is said in
a sentence with the command that mends it, as one has to type it here (`typed`), exit status 1, no traceback. With
--json the fields are a contract.
"""
