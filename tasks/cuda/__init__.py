"""The CUDA toolchain: compile, read what ptxas and SASS say, trace a twin's addresses, run and profile on a GPU."""
