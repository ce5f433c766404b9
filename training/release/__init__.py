"""From the best candidate to the served model: champion, refit, package, report; the competition's submission file."""
