"""Who decided what at this hospital, what has it spent, and how is that kept?"""
