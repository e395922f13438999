# docker build -t spg-trainer .
# docker run --rm --gpus all --shm-size 8g -v "$PWD/runs:/app/runs" -v "$HOME/.cache/huggingface:/root/.cache/huggingface" \
#   spg-trainer --env sudoku --output-dir runs/first
FROM python:3.11-slim

WORKDIR /app
COPY . .
# PyPI's torch for Linux brings its own CUDA libraries; without a GPU it runs on the CPU.
RUN pip install --no-cache-dir -c constraints.txt -e .
ENTRYPOINT ["python", "-m", "spg_trainer"]
