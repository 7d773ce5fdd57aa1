"""What training minimises: one term per file."""
