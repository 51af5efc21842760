"""Human studies: who is shown what, votes, and what they say with intervals that know prompts and raters."""
