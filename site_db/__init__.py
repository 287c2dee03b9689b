"""The centre: stores reports, derives capabilities, proposes entry configuration."""
