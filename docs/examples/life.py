"""Conway's Game of Life on a board with dead edges.

A NumPy program. Give `play` a DArray, and the board may be larger than memory.
"""

import numpy as np


def soup(rows, columns):
    """A random board: 1 for a living cell, 0 for a dead one."""
    board = np.zeros((rows, columns), np.int8)
    board[1:-1, 1:-1] = np.random.default_rng(0).random((rows - 2, columns - 2)) < 0.3
    return board


def play(board, generations):
    """Let generations of cells follow one another on `board`; returns `board`."""
    cells = board[1:-1, 1:-1]
    for _ in range(generations):
        neighbours = (
            board[:-2, :-2]
            + board[:-2, 1:-1]
            + board[:-2, 2:]
            + board[1:-1, :-2]
            + board[1:-1, 2:]
            + board[2:, :-2]
            + board[2:, 1:-1]
            + board[2:, 2:]
        )
        born = (neighbours == 3) & (cells == 0)
        survives = ((neighbours == 2) | (neighbours == 3)) & (cells == 1)
        board[...] = 0
        cells[born | survives] = 1
    return board


if __name__ == "__main__":
    board = soup(300, 400)
    play(board, 100)
    print(f"{np.sum(board)} cells live")
