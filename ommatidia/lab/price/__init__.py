"""What a design costs before it runs: operations, lengths, memory, hardware."""
