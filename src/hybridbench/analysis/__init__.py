"""What the records say: statistics, the claim ledger and every number that is quoted. Knows no model code."""
