"""Work that is split among workers: processes of this machine, or a Ray cluster."""
