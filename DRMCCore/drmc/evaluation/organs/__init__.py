"""Models of organs on unseen simulated patients: labels against the simulator's own."""
