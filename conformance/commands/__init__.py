"""The command's subcommands, a module each: `add_parser` says what may be typed, a function does it."""
