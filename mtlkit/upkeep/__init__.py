"""What keeps the course in order: a look at the machine, pictures drawn again, notebooks run and stored."""
