"""Sudoku, 4x4 and 9x9: puzzles with one solution, on solution grids that no two splits share."""

from envs.sudoku.env import Sudoku

__all__ = ["Sudoku"]
