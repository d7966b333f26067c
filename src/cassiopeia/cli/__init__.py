"""The command line: argument parsing and printing only, one module a command group."""
