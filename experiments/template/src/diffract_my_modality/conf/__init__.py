"""The configuration of this plugin; this file makes packaging tools take the folder along."""
