"""What does the read-only page show, and how is it kept free of anything from outside?"""
