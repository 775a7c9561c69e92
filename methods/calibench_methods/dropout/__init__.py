"""Monte-Carlo dropout: passes with live sites, independent, stratified, or as many as each text needs."""
