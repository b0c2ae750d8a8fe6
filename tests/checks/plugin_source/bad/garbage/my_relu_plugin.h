this is no header
