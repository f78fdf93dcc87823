"""From what was observed to what is wrong: rules suspect, experiments decide, findings tell."""
