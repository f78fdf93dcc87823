"""What is looked for: one file for each condition, each with the rule that suspects it and its thresholds."""
