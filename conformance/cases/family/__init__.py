"""The cases of every loss but info_nce: what all losses are asked alike, and what each has of its own."""
