"""What readers see: one style, figures with their sources beside them, tables, and the paper."""
