"""What must two parties, or an auditor years later, compute to the same byte or number?"""
