"""The command line `synseg`: one file per command."""
