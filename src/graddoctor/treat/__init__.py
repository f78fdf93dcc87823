"""The search for a cure: what a diagnosis asks for, the race of the candidates, the smallest that closes the gap."""
