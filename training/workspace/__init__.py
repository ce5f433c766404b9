"""What every stage uses: paths, params.yaml, MLflow runs, atomic output folders, plots, Keras callbacks."""
