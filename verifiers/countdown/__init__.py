"""The verifier of Countdown: arithmetic expressions, exactly."""
