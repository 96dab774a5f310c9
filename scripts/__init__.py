"""Development and demonstration commands; not shipped in any wheel."""
