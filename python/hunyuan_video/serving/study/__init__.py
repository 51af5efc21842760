"""A human study over HTTP: a page on which invited people vote on pairs of videos."""
