"""FerroHSM's adapters, one package each."""
