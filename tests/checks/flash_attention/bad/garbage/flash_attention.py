not python ((
