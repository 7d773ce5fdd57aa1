"""The command line `synseg`: one file per command, and what the commands share."""
