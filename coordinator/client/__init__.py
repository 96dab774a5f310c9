"""What do vendors and researchers use? The command `cohortium`, without the server's code."""
