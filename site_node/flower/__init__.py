"""Where does the site node touch Flower?"""
