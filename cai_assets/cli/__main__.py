from cai_assets.cli import app

app()
