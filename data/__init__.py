"""The files that the tasks ship with; `README.md` says where each comes from."""
