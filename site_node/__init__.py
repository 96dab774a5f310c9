"""What runs at the hospital? The site node: data in, approvals, training, one door out."""
