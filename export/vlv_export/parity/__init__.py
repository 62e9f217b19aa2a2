"""The proof that an artefact says what the trained model says: levels L0 to L6, and a report."""
