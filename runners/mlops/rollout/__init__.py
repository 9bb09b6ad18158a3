"""Rollouts: one function advances them, strategies say how, a platform says where, the ledger says what."""
