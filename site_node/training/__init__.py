"""What does a site compute on its patients' features, and which noise does it add?"""
