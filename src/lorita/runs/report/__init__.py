"""``report.html``: what a run was, did and cost, on one page that anybody can open."""
