"""The verifier of Countdown, which computes arithmetic expressions exactly."""
