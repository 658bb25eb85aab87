"""The command line `drmc`: one module a subcommand."""
