"""What was measured, on what, and how sure we are that it was: machine, device proof, timing, records."""
