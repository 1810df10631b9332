"""Where images come from, what is done to them, and how they reach the device."""
