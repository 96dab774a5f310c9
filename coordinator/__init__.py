"""What does the consortium's operator run? Enrolment, studies, rounds, and the page about them."""
