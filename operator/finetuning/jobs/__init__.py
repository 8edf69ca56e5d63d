"""The commands about a cluster's jobs: what they say, and with which exit code they end."""
