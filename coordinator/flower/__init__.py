"""Where does the coordinator touch Flower?"""
