"""How do vendors, researchers and enrolling sites reach the coordinator over HTTPS?"""
