fewer sectors, promised
